"""Codecs: a protocol's JSON ↔ `Request` and `Response`. One module per protocol.

Each is validation and arithmetic only, so that HTTP, a Kafka message and a test use the same one.
"""

from services.inference.core.codec.base import Body, Codec
from services.inference.core.codec.mlflow import MlflowCodec
from services.inference.core.codec.predict import PredictCodec
from services.inference.core.codec.v1 import V1Codec
from services.inference.core.codec.v2 import V2Codec

__all__ = ["Body", "Codec", "MlflowCodec", "PredictCodec", "V1Codec", "V2Codec"]
