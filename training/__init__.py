"""Offline: fits, evaluates and publishes the models. The only package with Keras model code."""
