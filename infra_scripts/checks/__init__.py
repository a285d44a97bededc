"""The checks of `check`: each module asks one part of AWS or Airflow and returns findings."""
