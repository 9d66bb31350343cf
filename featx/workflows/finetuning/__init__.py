"""Fine-tuning: from images to a fine-tuned network, compared with a linear probe."""
