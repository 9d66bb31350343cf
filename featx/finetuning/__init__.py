"""Fine-tuning: images and a head in, tuned weights out."""
