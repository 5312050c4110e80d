"""The command line of a researcher: `warren-researcher`.

Commands import what they need when they run, so that help and mistakes show at once.
"""

from common.audit.cli import audit_app
from common.cli import new_program, reported
from common.security.cli import enrol_command
from researcher.cli import experiment, federation, home, oversight

app = new_program("Run experiments in a federation.")
app.command()(reported(home.init))
app.command("enroll")(enrol_command("researcher", home.install))
app.add_typer(audit_app(home.audit_folder), name="audit")
for command in (
    experiment.run,
    experiment.plan,
    experiment.sweep,
    experiment.cross_validate,
    experiment.resume,
    experiment.watch,
    federation.nodes,
    federation.datasets,
    oversight.experiments,
    home.doctor,
    oversight.status,
    oversight.cancel,
    oversight.branch,
    oversight.export,
    oversight.replay,
    oversight.quarantine,
):
    app.command()(reported(command))
