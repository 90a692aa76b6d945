"""The sections of the page, one file each, with their text and plots."""
