"""What Alembic runs; the connection is the store's."""

from alembic import context

from labeling_ui.db.tables import Base

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Base.metadata,
    transactional_ddl=True,
)
context.run_migrations()
