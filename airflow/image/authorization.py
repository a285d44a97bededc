"""Decides by FAB's roles what a user may do, with starting a run apart from editing its DAG."""

from airflow.api_fastapi.auth.managers.base_auth_manager import ResourceMethod
from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity, DagDetails
from airflow.providers.fab.auth_manager.fab_auth_manager import FabAuthManager
from airflow.providers.fab.auth_manager.models import User


class StackFabAuthManager(FabAuthManager):
    """FAB requires permission to edit the DAG, and so to pause it, of whoever starts a run. Here "create" is enough.

    (Airflow looks for "FabAuthManager" in the name of this class when it keeps FAB's permissions in step with DAGs.)
    """

    def is_authorized_dag(
        self,
        *,
        method: ResourceMethod,
        user: User,
        access_entity: DagAccessEntity | None = None,
        details: DagDetails | None = None,
    ) -> bool:
        starts_run = method == "POST" and access_entity is DagAccessEntity.RUN
        if starts_run and details and ("can_create", f"DAG Run:{details.id}") in user.perms:
            return super().is_authorized_dag(method="GET", user=user, details=details)
        return super().is_authorized_dag(method=method, user=user, access_entity=access_entity, details=details)
