"""Makes the accounts `admin` and `trigger` in the metadata database, with the passwords of two secret files.

`trigger` gets a role of its own that may read the DAG moving_big_data and read and start its runs. Manual changes of
these two accounts or of that role are undone; a new password in .env is taken over at the next `make up`.
"""

from pathlib import Path

from airflow.providers.fab.auth_manager.cli_commands.utils import get_application_builder

DAG_ID = "moving_big_data"
ROLES = {"admin": "Admin", "trigger": "trigger"}
TRIGGER_MAY = (
    ("can_read", f"DAG:{DAG_ID}"),
    ("can_read", f"DAG Run:{DAG_ID}"),
    ("can_create", f"DAG Run:{DAG_ID}"),
)


def main() -> None:
    with get_application_builder() as builder:
        manager = builder.sm
        role = manager.find_role("trigger") or manager.add_role("trigger")
        role.permissions = [manager.create_permission(action, resource) for action, resource in TRIGGER_MAY]
        for name, role_name in ROLES.items():
            password = Path(f"/run/secrets/{name}_password").read_text()
            user, wanted = manager.find_user(username=name), manager.find_role(role_name)
            if user is None:
                user = manager.add_user(name, name, "account", f"{name}@localhost", wanted, password)
                if not user:
                    raise SystemExit(f"Airflow did not make the account {name}; its log above says why.")
            else:
                manager.reset_password(user.id, password)
            user.roles, user.active = [wanted], True
        manager.session.commit()
    print(f"Accounts: {', '.join(f'{name} (role {role})' for name, role in ROLES.items())}")


if __name__ == "__main__":
    main()
