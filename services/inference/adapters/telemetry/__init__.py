"""What the service says about itself: metrics, request ids, the log of requests."""
