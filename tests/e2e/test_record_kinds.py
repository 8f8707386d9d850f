"""Records of every kind through the running system: by stream in, by REST and command line out."""

from __future__ import annotations

from functools import partial
from typing import Any
from uuid import uuid4

from tests.e2e.twin import Twin
from tests.support import records
from tests.support.builders import source_body
from tests.support.records import AT, CHAIN, EXAMPLES, contract, symbol
from tests.support.waiting import until


def test_records_of_the_stream_become_official_and_are_explained(twin: Twin) -> None:
    suffix = uuid4().hex[:8].upper()
    ids = {id_: f"{id_}.{suffix}" for id_ in EXAMPLES}
    twin.register(
        [records.rules_body()],
        [source_body(name) for name in ("alpha", "beta", "gamma")],
        [{**records.series_body(id_), "reference_data_id": own} for id_, own in ids.items()],
    )
    wrong = records.chain()
    wrong["contracts"][0] = contract("C", 95, "9.00", "9.20")
    said: list[dict[str, Any]] = [
        records.record_body(own, source, wrong if (id_, source) == (CHAIN, "alpha") else EXAMPLES[id_])
        for id_, own in ids.items()
        for source in ("alpha", "beta", "gamma")
    ]
    said.append(records.record_body(ids[CHAIN], "alpha", {"contracts": [{"symbol": "none"}]}))
    load = f"records-{suffix}"
    twin.put_claims(said, load)
    assert twin.accounted(load, len(said)) == {"accepted": 15, "duplicates": 0, "rejected": 1}
    for own in ids.values():
        until(partial(_decided, twin, own), f"{own} to be decided on all claims", 60.0)
    for id_, own in ids.items():
        structure = records.series(id_).structure
        assert structure is not None
        snap = records.record_claim(id_, "alpha", EXAMPLES[id_]).snap
        value = twin.official(own, AT).json()["value"]
        wanted = structure.parts(structure.parse(EXAMPLES[id_], snap))
        assert structure.parts(structure.parse(value, snap)) == wanted
    told = twin.qis("explain", ids[CHAIN], "--snap", AT)["decision"]["fields"]["told"]
    assert {f["field"]: (f["sources"], f["others"]) for f in told} == {
        f"contracts/{symbol('C', 95)}/bid": (["beta", "gamma"], {"alpha": "9.00"}),
        f"contracts/{symbol('C', 95)}/ask": (["beta", "gamma"], {"alpha": "9.20"}),
    }


def _decided(twin: Twin, id_: str) -> bool:
    """Whether the decision rests on the claims of all three sources, however they were batched."""
    answer = twin.get(f"/api/v1/data/reference/{id_}/explain", snap=AT)
    claims = answer.json()["claims"] if answer.status_code == 200 else []
    return len(claims) == 3 and all(c["outcome"] == "used" for c in claims)
