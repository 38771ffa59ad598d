"""prep-server whose models all follow instructions, whatever their size.

Rules make every reply of an interview on the starter model; in this server, the model writes them:
`python -m tests.support.instruct_server serve`.
"""

from prepserver.cli import main
from prepserver.engines.types import ModelInfo

if __name__ == "__main__":
    ModelInfo.few_shot = property(lambda info: False)  # type: ignore[method-assign, assignment]
    ModelInfo.writes_follow_ups = property(  # type: ignore[method-assign, assignment]
        lambda info: True
    )
    main()
