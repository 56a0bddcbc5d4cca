"""What MMEngine's log file says beside the scalars."""

import re
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

_LINE = re.compile(r'^\d{4}/\d\d/\d\d [\d:]+ - \S+ - (\w+) - (.*)')
_RULE = re.compile('^-{20,}$')
_OF = re.compile(r'(?:Epoch|Iter)\(train\)\s+(?:\[\d+\])?\[\s*\d+/(\d+)\]')
# The build of PyTorch, in many lines, which tells no one much.
_LEFT_OUT = 'PyTorch compiling details'


@dataclass
class Log:
    """All log files of a training together.

    Attributes:
        environment (dict[str, str]): Versions and devices, of the last start.
        warnings (Counter[str]): The first lines of warnings and errors.
        resumed_at (list[str]): Where the training went on, such as
            'epoch 12'.
        plan (str): What the method said of itself at the start.
        length (int, optional): Iterations of an epoch, or of the training if
            that counts none.
    """
    environment: dict[str, str] = field(default_factory=dict)
    warnings: Counter[str] = field(default_factory=Counter)
    resumed_at: list[str] = field(default_factory=list)
    plan: str = ''
    length: int | None = None


def read_log(work_dir: Path) -> Log:
    """Reads the log files of a work_dir, the oldest first."""
    log = Log()
    for path in sorted(work_dir.glob('*/*.log')):
        lines = path.read_text(encoding='utf-8', errors='replace').splitlines()
        log.environment = _environment(lines) or log.environment
        for line in lines:
            found = _LINE.match(line)
            if not found:
                continue
            level, text = found.groups()
            if level in ('WARNING', 'ERROR', 'CRITICAL'):
                log.warnings[text] += 1
            elif text.startswith('resumed epoch: '):
                epoch, iteration = re.findall(r'\d+', text)[:2]
                log.resumed_at.append(
                    f'epoch {epoch}, iteration {iteration}')
            elif ' trains for ' in text and ' with rho=' in text:
                log.plan = text
            length = _OF.match(text)
            if length:
                log.length = int(length[1])
    return log


def _environment(lines: list[str]) -> dict[str, str]:
    """The block that MMEngine writes first."""
    rules = [i for i, line in enumerate(lines) if _RULE.match(line)][:2]
    if len(rules) < 2 or not lines[rules[0] + 1].startswith('System env'):
        return {}
    found: dict[str, str] = {}
    for line in lines[rules[0] + 1:rules[1]]:
        key, colon, value = line.strip().partition(': ')
        # Lines of the build have other depths.
        if line.startswith('    ') and not line.startswith('     ') \
                and colon and key != _LEFT_OUT:
            found[key] = value
    return found
