"""The reserved names of subscription billing."""

from __future__ import annotations


class BillingEvent:
    """Event types to which the service attaches a meaning of its own.

    Plain strings, to be passed as ``event_type``. The properties that go with them, where they
    apply: ``plan_id``, ``price`` (major units), ``currency`` (ISO 4217), ``plan_period`` (ISO 8601
    duration), ``transaction_id``, ``store``, ``trial_length_days``, ``trial_ends_at``,
    ``current_period_ends_at``, ``is_resubscribe``, ``is_first_ever``, ``access_source``,
    ``entitlements``, ``paid_periods_count``, ``access_ends_at``, ``store_cancel_reason``,
    ``end_reason``, ``has_access``, ``grace_ends_at``.
    """

    TRIAL_STARTED = "trial_started"
    TRIAL_CONVERTED = "trial_converted"
    TRIAL_AUTO_RENEW_DISABLED = "trial_auto_renew_disabled"
    MEMBERSHIP_STARTED = "membership_started"
    RENEWAL_SUCCEEDED = "renewal_succeeded"
    AUTO_RENEW_DISABLED = "auto_renew_disabled"
    AUTO_RENEW_ENABLED = "auto_renew_enabled"
    MEMBERSHIP_ENDED = "membership_ended"
    BILLING_ISSUE_STARTED = "billing_issue_started"
    BILLING_RECOVERED = "billing_recovered"
    REFUND_GRANTED = "refund_granted"


BillingEvent.__module__ = "whisperr"
