"""What is priced, one module a family of endpoints: the most that a request can use, and what an answer says that it used."""
