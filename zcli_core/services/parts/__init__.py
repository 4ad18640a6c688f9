"""What service backends share."""
