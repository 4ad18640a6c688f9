"""The steps of the tour, one file for each subject, and what they share (``walk``)."""
