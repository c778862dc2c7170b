"""All priced endpoints, by the names that the route table uses."""

from litellm_credits.endpoints.audio import Speech, Transcription
from litellm_credits.endpoints.chat import Chat, Completions
from litellm_credits.endpoints.documents import Ocr, PassThrough, Rerank
from litellm_credits.endpoints.embeddings import Embeddings, Moderations
from litellm_credits.endpoints.endpoint import Endpoint
from litellm_credits.endpoints.gemini import GenerateContent
from litellm_credits.endpoints.images import ImageEdit, ImageGeneration
from litellm_credits.endpoints.messages import Messages
from litellm_credits.endpoints.responses import Responses

PRICED: dict[str, Endpoint] = {
    endpoint.name: endpoint
    for endpoint in (
        Chat(),
        Completions(),
        Embeddings(),
        Responses(),
        Messages(),
        GenerateContent(),
        ImageGeneration(),
        ImageEdit(),
        Speech(),
        Transcription(),
        Rerank(),
        Moderations(),
        Ocr(),
        PassThrough(),
    )
}
