"""An S3 event goes in; one DagRun of moving_big_data for each marker, accepted by Airflow, comes out."""
