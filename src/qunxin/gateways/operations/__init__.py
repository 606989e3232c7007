"""The table of operations that HTTP and realtime `rpc` share.

`OPERATIONS[name]` has the structs and the handler: ``request = operation.decode(data)``, then
``response = await operation.run(Services(engine, tokens), caller, request)``, a plain struct that
msgspec encodes.
"""

from qunxin.gateways.operations.rows import OPERATIONS
from qunxin.gateways.operations.table import Field, Operation, Place, Services, TokenIssuer

__all__ = ["OPERATIONS", "Field", "Operation", "Place", "Services", "TokenIssuer"]
