"""The `.wsc` files that ship with the tool."""
