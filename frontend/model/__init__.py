"""A Hugging Face config becomes the model graph: checked, built without weights, traced, lowered."""
