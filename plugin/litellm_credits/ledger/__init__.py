"""Balances, holds and the append-only ledger. All money moves through db/sql/ledger.sql."""
