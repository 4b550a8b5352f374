"""Calibration and input data: readers, preprocessing, sample selection, fingerprints."""

from ptqbridge.data.asked import asked_samples
from ptqbridge.data.inputs import load_input
from ptqbridge.data.noise import noise, seeded_noise
from ptqbridge.data.reading import Sample
from ptqbridge.data.recipe import Recipe
from ptqbridge.data.samples import Samples, open_samples

__all__ = ["Recipe", "Sample", "Samples", "asked_samples", "load_input", "noise", "open_samples", "seeded_noise"]
