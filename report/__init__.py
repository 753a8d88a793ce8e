"""A result becomes what a person or a program reads: console tables and JSON."""
