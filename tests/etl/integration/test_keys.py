"""A key of S3 is the same bytes whoever asks for it, obstore or boto3, or it is refused: never another object."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

import etl
from etl.batch.storage import open_storage, read_file
from tests.support.batch_files import process

if TYPE_CHECKING:
    from tests.support.aws_places import Bucket
    from tests.support.batch_files import Files

REFUSED = {
    "begins with a slash": ("/Output", "//Output", "/"),
    "has a sign that cannot be printed": ("a\nb", "a\x00b", "a\x7fb", "a\u202eb"),
}
ACCEPTED = [
    "Output", "Output/", "a/b/c", "a//b", "a//", "a///b", "./Output", "a/./b", "a/../Output", "..", "a/..", "...",
    " Output", "Output ", "a b/ c", "a+b", "a%20b", "a%2Fb", "a%2fb", "100%", "%", "a%zzb", "ü", "u\u0308", "株式会社",
    "\u0915\u094d\u0937", "a?b=c&d", "a#b", "a&b;c", "a\\b", "a'b", 'a"b', "a:b@c", "~a", "a*b", "a=b", "a|b", "a^b",
    "a`b", "<a>", "{a}", "[a]", "a.b", "a..b", ".a", "a.", "😀", "A" * 200,
]  # fmt: skip


@pytest.mark.parametrize(("fault", "keys"), REFUSED.items(), ids=REFUSED)
def test_key_that_clients_read_in_different_ways_is_refused(bucket: Bucket, fault: str, keys: tuple[str, ...]) -> None:
    bucket.put("Output/x.csv", b"another object")
    for key in keys:
        with pytest.raises(etl.SettingsError) as raised:
            open_storage(f"s3://{bucket.name}/{key}", aws=bucket.aws)
        assert fault in str(raised.value)
        assert str(raised.value).isprintable()
        for name in ("x.csv", "Output/x.csv"):
            with pytest.raises(etl.SettingsError, match=r"The key of .* (read in different|cannot be printed)"):
                read_file(f"s3://{bucket.name}/{key.removesuffix('/')}/{name}", aws=bucket.aws)


@pytest.mark.parametrize("key", ["/x.csv", "//x.csv", "/Output/x.csv"])
def test_index_whose_key_begins_with_a_slash_is_refused_where_another_object_would_be_read(
    bucket: Bucket, key: str
) -> None:
    for decoy in ("x.csv", "Output/x.csv"):
        bucket.put(decoy, b"'a.us.csv'")
    with pytest.raises(etl.SettingsError, match=r"begins with a slash, .* Remove it"):
        read_file(f"s3://{bucket.name}/{key}", aws=bucket.aws)


@pytest.mark.parametrize("key", ["Output//x.csv", "./x.csv", "Output/../x.csv", "Output/./x.csv"])
def test_no_other_object_is_read_for_a_key_that_looks_like_a_way_to_it(bucket: Bucket, key: str) -> None:
    for decoy in ("x.csv", "Output/x.csv"):
        bucket.put(decoy, b"another object")
    with pytest.raises(etl.SettingsError, match="No such file"):
        read_file(f"s3://{bucket.name}/{key}", aws=bucket.aws)
    bucket.put(key, b"the content")
    assert read_file(f"s3://{bucket.name}/{key}", aws=bucket.aws) == b"the content"


@pytest.mark.parametrize("key", ACCEPTED)
def test_key_is_the_same_bytes_in_every_operation_of_both_clients(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    monkeypatch.setattr("etl.batch.s3_upload._LEAST_PART_BYTES", 4)
    url, name = f"s3://{bucket.name}/{key}", "öl a+b%20c~.csv"
    whole = f"{key.removesuffix('/')}/{name}"
    place = open_storage(url, aws=bucket.aws)
    with place.write(name) as file:
        file.write(b"the content")
    assert bucket.keys() == {whole}, "as botocore writes it"
    bucket.put(f"{key.strip(' /')}/decoy/{name}", b"another object")
    assert list(place.listing()) == [name]
    assert place.find(name) == place.listing()[name]
    assert place.read(name, version=place.find(name).version) == b"the content", "as obstore reads it"
    assert read_file(place.url_of(name), aws=bucket.aws) == b"the content"
    assert b"".join(place.read_range(name, start=4, length=7)) == b"content"
    with monkeypatch.context() as without_obstore:
        without_obstore.setattr("etl.batch.s3._objects", lambda *_: None)
        assert open_storage(url, aws=bucket.aws).read(name) == b"the content", "as botocore reads it"
    with place.write("copy.csv") as file:
        file.append(name, length=11)
    assert place.read("copy.csv") == b"the content", "as S3 copies it"
    place.remove("decoy/")
    assert bucket.keys() >= {whole, f"{key.removesuffix('/')}/copy.csv"}


def test_batch_under_awkward_prefixes_is_moved_like_any_other(three: Files, bucket: Bucket) -> None:
    for path in three.source.iterdir():
        bucket.put(f"in %2F ü/{path.name}", path.read_bytes())
    bucket.put("100%/index +.txt", three.index.read_bytes())
    place = f"s3://{bucket.name}"
    job = bucket.job(source=f"{place}/in %2F ü/", company_index=f"{place}/100%/index +.txt", output=f"{place}/out#1")
    assert process(job).rows.accepted == 35
    assert process(job).files.taken_over == 3
    process(three.job())
    assert bucket.get("out#1/historical_stock_data.csv") == three.combined
