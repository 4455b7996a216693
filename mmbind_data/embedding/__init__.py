"""Vectors of samples and labels: encoders, autoencoder, contrastive, sentence models."""
