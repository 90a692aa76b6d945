"""Names of image files: the client and batch scoring tell by them which files of a folder are images."""

from typing import Final

IMAGE_SUFFIXES: Final = (
    *(".png", ".apng", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".gif", ".bmp", ".dib"),
    *(".heic", ".heif", ".hif", ".avif", ".tif", ".tiff"),
)
