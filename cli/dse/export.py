"""`wscc-dse export`: every trial as a table, the best designs as specs."""

from collections.abc import Sequence
from pathlib import Path

from ...dse.trial import Trial
from ...ir.errors import Location, UserError
from ...ir.store import write_text
from ...report.files import check_folder, save_files
from ...report.study_data import Unit
from ...report.study_export import columns, csv_text, write_parquet
from .asked import Export
from .changing import designs_in
from .described import rows_of, spec_of
from .opened import Opened, opened
from .reading import say


def export(asked: Export) -> int:
    """Carry out `wscc-dse export`: 1 where there is no best design to write. Raises UserError."""
    code, written = 0, list[str]()
    with opened(asked.study) as study:
        if asked.csv or asked.parquet:
            best = frozenset(trial.number for trial in study.best)
            table = columns(rows_of(study.store.trials()), best)
            if asked.csv:
                _write(asked.csv, csv_text(table))
                written.append(asked.csv)
            if asked.parquet:
                write_parquet(table, Path(asked.parquet))
                written.append(asked.parquet)
        if asked.specs:
            specs = best_specs(study)
            save_specs(asked.specs, specs)
            written += [str(Path(asked.specs) / name) for name in specs]
            code = 0 if study.best else 1
    say(asked.talk, "export", {"written": written}, [f"wrote {path}" for path in written])
    return code


def _write(path: str, text: str) -> None:
    try:
        write_text(Path(path), text)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise UserError(f"cannot be written: {reason}", Location(path)) from None


def best_specs(study: Opened) -> dict[str, str]:
    """The designs of the front as specs by file name: the space with other defaults, and every
    file that it uses and that is not a shipped one."""
    return specs_of(study, study.best)[1]


def specs_of(study: Opened, trials: Sequence[Trial]) -> tuple[dict[int, str], dict[str, str]]:
    """The designs of trials as specs: their file names by the trials' numbers, and texts by file
    name. Raises UserError where the study's spec cannot be read any more."""
    from ...frontend.hardware.files import SHIPPED, read_text
    from .spec_text import units_of, value_text, with_defaults

    spec = spec_of(study.store.info)
    designs = designs_in(study)
    units = units_of(designs.space)
    files = dict(spec.files)
    shipped = spec.main not in files
    main = f"{spec.main}.wsc" if shipped else spec.main
    text = files.pop(main) if not shipped else dict(spec.shipped)[main]
    names: dict[int, str] = {}
    found: dict[str, str] = {}
    for trial in trials:
        chosen = designs.bind(trial.design).parameters
        defaults = {
            name: value_text(value, units.get(name, Unit())) for name, value in chosen.items()
        }
        name = str(Path(main).with_name(f"{Path(main).stem}-{trial.number}.wsc"))
        names[trial.number] = name
        found[name] = with_defaults(text, name, defaults)
    if found:
        changed = {
            name: text
            for name, text in spec.shipped
            if name != main and read_text(SHIPPED / name) != text
        }
        found |= files | changed
    return names, found


def save_specs(directory: str, specs: dict[str, str]) -> None:
    """Write specs by their paths below a folder; raises UserError."""
    check_folder(directory)
    folders: dict[Path, dict[str, str]] = {}
    for name, text in specs.items():
        path = Path(directory, name)
        folders.setdefault(path.parent, {})[path.name] = text
    for folder, files in folders.items():
        save_files(folder, files)
