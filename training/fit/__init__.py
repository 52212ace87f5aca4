"""Fits branches: features, targets, losses, augmentation and calibration."""
