"""The steps of the tour, one file per subject, and what they have in common (``walk``)."""
