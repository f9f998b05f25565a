"""The process that reads, segments and measures cases, and what it says of them."""
