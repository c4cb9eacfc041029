"""The inputs that scripts/record_models.py gives to models: a voice, handwriting and a text, made of nothing but this
script and the digits' record, so that every run has the same ones."""

import pathlib

import numpy as np

DIGITS = pathlib.Path(__file__).resolve().parent.parent / "examples" / "models" / "digits"
RATE = 16_000  # samples a second
CHUNK = 512  # samples that Silero VAD takes at a time; the first of a voice are silent


# Audio.


def voice(seconds, random):
    """Something like a voice, after a moment of silence: the harmonics of a gliding pitch under moving formants."""
    t = np.arange(int(RATE * seconds)) / RATE
    pitch = 120 + 25 * np.sin(2 * np.pi * 3 * t)
    phase = 2 * np.pi * np.cumsum(pitch) / RATE
    formant1 = 500 + 250 * np.sin(2 * np.pi * 2 * t)
    formant2 = 1500 + 500 * np.sin(2 * np.pi * 2.7 * t + 1)
    sound = np.zeros_like(t)
    for k in range(1, 40):
        f = k * pitch
        loudness = np.exp(-(((f - formant1) / 120) ** 2)) + 0.6 * np.exp(-(((f - formant2) / 180) ** 2))
        sound += (loudness + 0.3 * np.exp(-(((f - 2700) / 250) ** 2)) + 0.02) * np.sin(k * phase)
    syllables = np.clip(np.sin(2 * np.pi * 4 * (t - CHUNK / RATE)), 0, 1) * (t >= CHUNK / RATE)
    return (0.4 * sound / np.abs(sound).max() * syllables + 0.002 * random.standard_normal(len(t))).astype(np.float32)


def bytes_of(values):
    """The values as u8, scale and shift, from the least to the largest."""
    low, high = float(values.min()), float(values.max())
    scale = float(np.float32((high - low) / 255))
    return np.clip(np.round((values - low) / scale), 0, 255).astype(np.uint8), scale, low


def pieces(audio, size, hop):
    """Overlapping pieces of the audio, one a row."""
    return np.stack([audio[at : at + size] for at in range(0, len(audio) - size + 1, hop)])


def mel_filters(size, bands):
    """Triangles that are as wide as the ear's bands: a column for each band, a row for each frequency of a DFT."""
    mel = lambda hertz: 2595 * np.log10(1 + hertz / 700)
    edges = 700 * (10 ** (np.linspace(0, mel(RATE / 2), bands + 2) / 2595) - 1)
    hertz = np.arange(size // 2 + 1)[:, None] * RATE / size
    low, middle, high = edges[:-2], edges[1:-1], edges[2:]
    rising, falling = (hertz - low) / (middle - low), (high - hertz) / (high - middle)
    return np.maximum(0, np.minimum(rising, falling)) * 2 / (high - low)


def log_mel(audio, size, hop, bands):
    """The common logarithm of the power in each band of each piece: a row for each piece."""
    power = np.abs(np.fft.rfft(pieces(audio, size, hop) * np.hanning(size + 1)[:-1])) ** 2
    return np.log10(np.maximum(1e-10, power @ mel_filters(size, bands)))


# Pictures.


def digit_images():
    """The digits' held-out images, dark ink on white, and what they show."""
    pixels = np.fromfile(DIGITS / "images.bin", np.uint8).reshape(-1, 8, 8)
    return 255 - pixels.astype(np.float64) * (255 / 16), np.fromfile(DIGITS / "labels.bin", np.uint8)


def enlarged(image, times):
    """Bilinear."""
    for axis in (0, 1):
        size = image.shape[axis]
        at = np.clip((np.arange(size * times) + 0.5) / times - 0.5, 0, size - 1)
        low = np.minimum(at.astype(int), size - 2)
        share = (at - low).reshape((-1, 1) if axis == 0 else (1, -1))
        image = np.take(image, low, axis) * (1 - share) + np.take(image, low + 1, axis) * share
    return image


def line_of_digits(text, height, width, times):
    """A white picture with the handwritten digits of `text` in a line across its middle, u8."""
    images, labels = digit_images()
    picture = np.full((height, width), 255.0)
    size = 8 * times
    top, left = (height - size) // 2, (width - size * len(text)) // 2
    for place, character in enumerate(text):
        digit = images[np.flatnonzero(labels == int(character))[0]]
        picture[top : top + size, left + place * size : left + (place + 1) * size] = enlarged(digit, times)
    return np.clip(picture.round(), 0, 255).astype(np.uint8)
