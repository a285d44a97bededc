"""Starts one run of the DAG moving_big_data for each marker that S3 reports, and reports each marker without a run."""
