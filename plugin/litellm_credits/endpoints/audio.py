"""Audio: speech, priced by characters, and transcriptions, priced by seconds or by tokens."""

import io
import struct
from collections.abc import Mapping
from decimal import ROUND_UP, Decimal
from typing import Any

from openai.types.audio import SpeechCreateParams
from openai.types.audio.transcription_create_params import TranscriptionCreateParamsBase

from litellm_credits.attributes import field
from litellm_credits.endpoints.endpoint import Demand, Endpoint
from litellm_credits.endpoints.reading import refuse_fields, text_bytes
from litellm_credits.errors import BadInput
from litellm_credits.pricing.usage import Unit

_FEWEST_BYTES_A_SECOND = 750
"""6 kbit/s, the least that Opus goes down to (RFC 6716, 2.1.1); the other codecs that providers take need more."""

_UNCOMPRESSED = (1, 3)
"""Format tags of a WAV: whole numbers and floating-point numbers."""

_MOST_CHANNELS, _HIGHEST_RATE, _MOST_BITS = 32, 768_000, 64
"""Beyond any sound: what states more is not believed."""

_MOST_SECONDS = Decimal(10**6)


class Speech(Endpoint):
    """`/v1/audio/speech`. The answer is sound and says nothing of usage: the characters sent are what is counted."""

    name = "speech"
    call_types = frozenset({"aspeech", "speech"})
    fields = frozenset(SpeechCreateParams.__annotations__)
    tokens = False
    units = (Unit.CHARACTER, Unit.REQUEST)
    limits_output = False
    counts_itself = True

    def refuse(self, body: Mapping[str, Any]) -> None:
        refuse_fields(body, ("stream_format",) if body.get("stream_format") != "audio" else ())

    def demand(self, body: Mapping[str, Any]) -> Demand:
        text = body.get("input")
        if not isinstance(text, str) or not text:
            raise BadInput(problem="'input' must be the text to speak.", param="input")
        return Demand(text_bytes(text), units=self.counted(body, None))

    def counted(self, body: Mapping[str, Any], answer: object) -> Mapping[Unit, Decimal]:
        return {Unit.CHARACTER: Decimal(len(body["input"]))}

    def has_output(self, answer: object) -> bool:
        return answer is not None


class Transcription(Endpoint):
    """`/v1/audio/transcriptions`. `body["file"]` is `{"bytes", "seconds", "bytes_a_second"}`: the file's size, its length as it
    says itself, and of uncompressed sound how many bytes are a second of it.

    What a file says of its length must not lower the bound; only its size does.
    """

    name = "transcription"
    call_types = frozenset({"atranscription", "transcription"})
    fields = frozenset(TranscriptionCreateParamsBase.__annotations__) | {
        "stream",
        "timestamp_granularities[]",
        "include[]",
    }
    form = True
    units = (Unit.SECOND, Unit.REQUEST)
    limits_output = False

    def refuse(self, body: Mapping[str, Any]) -> None:
        refuse_fields(body, ("stream",) if str(body.get("stream", "")).lower() not in ("", "false", "0") else ())

    def demand(self, body: Mapping[str, Any]) -> Demand:
        file = body.get("file")
        if file and file.get("flac"):
            raise BadInput(
                problem="FLAC cannot be metered: its size says nothing of its length. Send WAV, MP3 or another format.",
                param="file",
            )
        if not file:
            raise BadInput(problem="'file' must be an uploaded audio file.", param="file")
        seconds = file["bytes"] / Decimal(file["bytes_a_second"] or _FEWEST_BYTES_A_SECOND)
        # Providers round to whole seconds, some of them after they have joined the ends of what they cut.
        return Demand(None, None, 1, {Unit.SECOND: seconds.to_integral_value(ROUND_UP) + 1})

    def estimated(self, body: Mapping[str, Any]) -> Mapping[Unit, Decimal]:
        seconds = body["file"]["seconds"]
        return {Unit.SECOND: seconds} if seconds is not None else self.demand(body).units

    def stated(self, answer: object) -> object:
        usage = field(answer, "usage")
        return usage if field(usage, "type") != "duration" else None

    def counted(self, body: Mapping[str, Any], answer: object) -> Mapping[Unit, Decimal]:
        for stated in (field(answer, "usage", "seconds"), field(answer, "duration")):
            seconds = _seconds(stated)
            if seconds is not None:
                return {Unit.SECOND: seconds}
        return {}

    def text(self, answer: object) -> list[str]:
        text = field(answer, "text")
        return [text] if isinstance(text, str) and text else []

    def has_output(self, answer: object) -> bool:
        return answer is not None


def bytes_a_second(sound: bytes) -> int | None:
    """Of an uncompressed WAV, how many bytes a second of it takes; None of anything else."""
    found = _wav(sound)
    return None if found is None else found[0]


def _wav(sound: bytes) -> tuple[int, int] | None:
    """Bytes a second, and where the sound begins, of an uncompressed WAV: its chunks one by one, as decoders read them."""
    if sound[:4] != b"RIFF" or sound[8:12] != b"WAVE":
        return None
    at, each = 12, None
    while at + 8 <= len(sound):
        name, size = struct.unpack_from("<4sI", sound, at)
        if name == b"data":
            return None if each is None else (each, at + 8)
        if name == b"fmt ":
            if size < 16 or at + 24 > len(sound):
                return None
            form, channels, rate, _, _, bits = struct.unpack_from("<HHIIHH", sound, at + 8)
            sane = form in _UNCOMPRESSED and channels <= _MOST_CHANNELS and rate <= _HIGHEST_RATE and bits <= _MOST_BITS
            each = (channels * rate * bits // 8 or None) if sane else None
        at += 8 + size + size % 2
    return None


def is_flac(sound: bytes) -> bool:
    """Whether it is FLAC, by itself or in Ogg."""
    return sound[:4] == b"fLaC" or (sound[:4] == b"OggS" and b"FLAC" in sound[:64])


def seconds_of(sound: bytes) -> Decimal | None:
    """How long a sound is, read from the file; None where that cannot be told. Slow for large files.

    Uncompressed sound is as long as its bytes are, whatever its header says.
    """
    found = _wav(sound)
    if found is not None:
        each, start = found
        return _round(Decimal(len(sound) - start) / each)
    import soundfile  # noqa: PLC0415  (brings numpy with it, for one route)

    try:
        with soundfile.SoundFile(io.BytesIO(sound)) as opened:
            return _round(Decimal(len(opened)) / Decimal(opened.samplerate))
    except (soundfile.SoundFileError, ValueError, ArithmeticError):
        return None


def _seconds(stated: object) -> Decimal | None:
    if isinstance(stated, bool) or not isinstance(stated, int | float | str | Decimal):
        return None
    try:
        seconds = Decimal(str(stated))
    except ArithmeticError:
        return None
    return _round(seconds) if seconds.is_finite() and 0 <= seconds < _MOST_SECONDS else None


def _round(seconds: Decimal) -> Decimal:
    return seconds.quantize(Decimal("0.001"), rounding=ROUND_UP)
