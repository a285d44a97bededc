# S3, SNS, SQS and SSM for the tests, on the image that the stack is built on, which is here already.
FROM apache/airflow:3.3.2-python3.13
RUN --mount=type=bind,source=requirements.lock,target=/tmp/requirements.lock \
    python -m venv /home/airflow/moto \
    && sed 's/ \\$//; /^ /d' /tmp/requirements.lock >/tmp/pinned.txt \
    && /home/airflow/moto/bin/pip install --quiet --no-cache-dir --constraint /tmp/pinned.txt "moto[s3,server,sns,sqs,ssm]"
ENTRYPOINT ["/home/airflow/moto/bin/moto_server"]
