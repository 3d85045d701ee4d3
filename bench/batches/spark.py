# mypy: ignore-errors
# ruff: noqa: ANN001, ANN201  # the framework has the types, in an environment of its own
"""`mlflow.pyfunc.spark_udf`: the bundle as MLflow's python_function, Spark in one JVM with Python's processes."""

import os
import sys
import time
from pathlib import Path

import mlflow.pyfunc
from pyspark.sql import SparkSession, functions

from bench.batches.clock import told
from services.inference.runtimes import mlflow_loader

BATCH_ROWS = 16_384
"""That go to a Python process at once, as with the job; Spark's own number is 10,000."""


def session():
    """All processors of this machine, no server of its own."""
    os.environ["OMP_NUM_THREADS"] = "1"
    chosen = {
        "spark.driver.host": "127.0.0.1",
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.driver.memory": "4g",
        "spark.ui.enabled": "false",
        "spark.sql.execution.arrow.maxRecordsPerBatch": str(BATCH_ROWS),
        "spark.python.worker.reuse": "true",
    }
    builder = SparkSession.builder.master("local[*]")
    for key, value in chosen.items():
        builder = builder.config(key, value)
    return builder.getOrCreate()


if __name__ == "__main__":
    model = Path(sys.argv[2]) / "mlflow"
    mlflow.pyfunc.save_model(str(model), loader_module=mlflow_loader.NAME, data_path=sys.argv[3], pip_requirements=[])
    spark = session()
    spark.sparkContext.setLogLevel("ERROR")
    predict = mlflow.pyfunc.spark_udf(
        spark, str(model), result_type="prediction long, probability float", env_manager="local"
    )

    def run(source, output):
        """Every column, and ours."""
        frame = spark.read.parquet(str(source))
        features = functions.struct(*[name for name in frame.columns if name != "id"])
        answered = frame.withColumn("answer", predict(features)).select(*frame.columns, "answer.*")
        stamped = answered.withColumn("model_version", functions.lit("1"))
        stamped.withColumn("inference_timestamp", functions.current_timestamp()).write.parquet(str(output))

    source, output = Path(sys.argv[1]), Path(sys.argv[2])
    run(min(source.iterdir()), output / "first")  # the JVM compiles, its Python processes load the model, and stay
    started = time.perf_counter()
    run(source, output / "all")
    told(source, time.perf_counter() - started)
    spark.stop()
