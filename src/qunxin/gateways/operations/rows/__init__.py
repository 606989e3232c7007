"""The one table of operations, in the order of the reference: a file of rows for each subject.

To add an operation: a request struct, a response struct where the engine's own value does not
do, a handler, a row. HTTP routes, realtime `rpc` names, the OpenAPI description and the readable
page follow.
"""

from typing import Final

from qunxin.gateways.operations.rows.access import ACCESS
from qunxin.gateways.operations.rows.groups import GROUPS
from qunxin.gateways.operations.rows.messages import MESSAGES
from qunxin.gateways.operations.rows.users import USERS
from qunxin.gateways.operations.rows.webhooks import WEBHOOKS
from qunxin.gateways.operations.table import Operation

OPERATIONS: Final[dict[str, Operation]] = {
    operation.name: operation for operation in (*USERS, *GROUPS, *MESSAGES, *ACCESS, *WEBHOOKS)
}
