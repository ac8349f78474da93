# ruff: noqa
# fmt: off
"""The guide's three scenarios, word for word under what they take for granted."""
from decimal import Decimal
from typing import Any, List
from uuid import UUID

from models import Session, Tenant
from points.service import PointsService

db: Any = None
current_admin: Any = None

async def bulk_allocate_to_tenants(tenants: List[UUID], amount_per_tenant: Decimal):
    """Allocate same amount to multiple tenants"""
    results = []
    
    for tenant_id in tenants:
        try:
            result = PointsService.allocateToTenant(
                db=db,
                tenant_id=tenant_id,
                admin_id=current_admin.id,
                amount=amount_per_tenant,
                currency='INR',
                reference_note=f'Bulk allocation for {len(tenants)} tenants'
            )
            results.append(result)
        except Exception as e:
            results.append({'error': str(e)})
    
    return results

async def can_give_recognition(tenant_id: UUID, amount: Decimal, db: Session) -> bool:
    """Check if tenant can give this recognition"""
    tenant = db.query(Tenant).filter(Tenant.id == tenant_id).first()
    if not tenant:
        return False
    return tenant.points_allocation_balance >= amount

async def award_bonus_points(
    tenant_id: UUID,
    user_id: UUID,
    bonus_amount: Decimal,
    reason: str,
    db: Session
):
    """Custom endpoint to award bonus points directly"""
    try:
        result = PointsService.awardToUser(
            db=db,
            tenant_id=tenant_id,
            from_user_id=None,  # System award
            to_user_id=user_id,
            amount=bonus_amount,
            recognition_message=reason,
            recognition_id=None
        )
        return {"success": True, "result": result}
    except ValueError as e:
        return {"success": False, "error": str(e)}
