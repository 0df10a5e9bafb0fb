"""The records of functions that KServe runs.

KServe copies the annotations of an InferenceService to its pods. If the record were there, every
deploy would restart them.
"""

from __future__ import annotations

from typing import TypeAlias

from fnbuild.platforms.kserve.revision_record import RevisionRecord
from fnbuild.platforms.kubeclient import function_records
from fnbuild.platforms.kubeclient.function_records import RecordKind
from fnbuild.platforms.kubeclient.ownership import SERVICE_RECORD

FunctionRecord: TypeAlias = function_records.FunctionRecord[RevisionRecord]
FunctionLease: TypeAlias = function_records.FunctionLease[RevisionRecord]

RECORDS = RecordKind(SERVICE_RECORD, RevisionRecord)
