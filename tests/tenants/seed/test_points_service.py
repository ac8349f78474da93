# ruff: noqa
# fmt: off
# backend/tests/test_points_service.py
import pytest
from decimal import Decimal
from points.service import PointsService
from models import Tenant

def test_allocate_to_tenant(db, tenant, admin):
    """Test allocating points to tenant"""
    initial_balance = tenant.points_allocation_balance
    
    result = PointsService.allocateToTenant(
        db=db,
        tenant_id=tenant.id,
        admin_id=admin.id,
        amount=Decimal('1000'),
        currency='INR'
    )
    
    assert result['success'] == True
    assert result['new_allocation_balance'] == str(initial_balance + Decimal('1000'))
    
    # Verify in DB
    db.refresh(tenant)
    assert tenant.points_allocation_balance == initial_balance + Decimal('1000')

def test_insufficient_balance_error(db, tenant, user_a, user_b):
    """Test error when insufficient balance"""
    tenant.points_allocation_balance = Decimal('100')
    db.add(tenant)
    db.commit()
    
    with pytest.raises(ValueError, match="Insufficient allocation pool"):
        PointsService.awardToUser(
            db=db,
            tenant_id=tenant.id,
            from_user_id=user_a.id,
            to_user_id=user_b.id,
            amount=Decimal('1000'),
            recognition_message='Test'
        )
