"""What upload takes the index to name agrees with what the pipeline takes it to name."""

from __future__ import annotations

import pytest

from etl.batch.company_index import parse_index
from infra_scripts.commands.upload import index_names
from tests.support.paths import SAMPLE

SAMPLE = SAMPLE / "CompanyNames" / "top_companies.txt"


@pytest.mark.parametrize(
    "content",
    [
        SAMPLE.read_bytes(),
        b"'a.us.csv', 'b.us.csv',\n",
        b'\xef\xbb\xbf"a.us.csv","b.us.csv"\r\n"c.us.csv"',
        b"a.us.csv\n\nb.us.csv\nb.us.csv\n",
    ],
)
def test_upload_reads_an_index_as_the_pipeline_does(content: bytes) -> None:
    assert tuple(dict.fromkeys(index_names(content))) == parse_index(content).names
