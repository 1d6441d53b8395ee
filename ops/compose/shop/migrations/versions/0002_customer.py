"""who ordered"""
from alembic import op
import sqlalchemy as sa

revision = "0002_customer"
down_revision = "0001_orders"


def upgrade():
    op.add_column("orders", sa.Column("customer", sa.Text, nullable=False, server_default="unknown"))


def downgrade():
    op.drop_column("orders", "customer")
