"""Streams: messages of a Kafka topic, scored in micro-batches, answers and dead letters to topics of their own."""
