"""What `check` looks at: each module asks one part of AWS or Airflow and returns findings."""
