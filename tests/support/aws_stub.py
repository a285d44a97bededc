"""An AWS that answers every request alike: with an error as S3 or SNS documents it, or with any page."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from html import escape
from http.server import BaseHTTPRequestHandler
from typing import Any

import botocore.session

from tests.support.http_server import LocalServer


@dataclass(frozen=True)
class Page:
    """One answer."""

    status: int
    body: str
    content_type: str = "application/xml"


def s3_error(status: int, code: str, sentence: str) -> Page:
    """As docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html shows it."""
    return Page(
        status, f"<Error><Code>{code}</Code><Message>{escape(sentence)}</Message><RequestId>1</RequestId></Error>"
    )


def sns_error(status: int, code: str, sentence: str) -> Page:
    """As docs.aws.amazon.com/sns/latest/api/CommonErrors.html shows it."""
    return Page(
        status,
        '<ErrorResponse xmlns="http://sns.amazonaws.com/doc/2010-03-31/"><Error><Type>Sender</Type>'
        f"<Code>{code}</Code><Message>{escape(sentence)}</Message></Error><RequestId>1</RequestId></ErrorResponse>",
    )


def model_errors(service: str) -> Iterator[tuple[str, int]]:
    """Code and HTTP status of each error that botocore's model of a service has."""
    model = botocore.session.get_session().get_service_model(service)
    for name in model.shape_names:
        shape: Any = model.shape_for(name)
        if shape.type_name == "structure" and shape.metadata.get("exception"):
            yield shape.error_code, shape.metadata.get("error", {}).get("httpStatusCode", 400)


class AwsStub(LocalServer):
    """Listens while its `with` block lasts, and answers with `page`."""

    def __init__(self) -> None:
        self.page = Page(200, "")
        self.requests: list[str] = []
        """Methods and targets of the requests that came."""
        super().__init__(_handler_of(self))


def _handler_of(stub: AwsStub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def answer(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            stub.requests.append(f"{self.command} {self.path}")
            body = stub.page.body.encode()
            self.send_response_only(stub.page.status)
            self.send_header("Content-Type", stub.page.content_type)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("x-amz-bucket-region", "us-west-2")  # as S3 does; botocore follows it, once
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = answer

        def log_message(self, format: str, *args: Any) -> None:  # noqa: ANN401  as the base class has it
            """Print nothing."""

    return Handler
