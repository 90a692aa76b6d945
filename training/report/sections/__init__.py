"""The parts of the page, one file each: what it says, and the plots that it shows."""
