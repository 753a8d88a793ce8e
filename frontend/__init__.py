"""What the user wrote, read: a Hugging Face config (model/), a `.wsc` file (hardware/)."""
