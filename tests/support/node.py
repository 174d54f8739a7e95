"""Node.js for tests of JavaScript: the machine's own, or the one that the extra [site] brings."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

NODE = shutil.which("node") or shutil.which("node", path=str(Path(sys.executable).parent))


def run_module(module: Path, code: str, given: Any = None) -> Any:
    """What `code` returns, a JavaScript function body in which `module` and `given` (JSON) are there."""
    body = f"""
        const module = await import({json.dumps(module.as_uri())});
        let text = "";
        for await (const chunk of process.stdin) text += chunk;
        const answer = await (async (module, given) => {{ {code} }})(module, JSON.parse(text));
        process.stdout.write(JSON.stringify(answer));
    """
    command = [NODE, "--input-type=module", "-e", body]
    done = subprocess.run(command, input=json.dumps(given), capture_output=True, text=True, encoding="utf-8")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)
