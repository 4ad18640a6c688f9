"""What backplanes over the network have in common. A plugin may use it or not."""
