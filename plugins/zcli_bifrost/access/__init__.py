"""Who may use zBifrost: the tiers, the keys of application users, and what a client may do after it was admitted."""
