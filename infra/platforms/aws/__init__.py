"""AWS: what an environment stands on in an account of one's own."""
