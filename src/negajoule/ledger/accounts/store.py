"""What owns the budgets: a store that workers lease slices from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from negajoule.ledger.accounts.account import Account, Terms, Usage
    from negajoule.ledger.accounts.slices import Answer, Statement, Want

__all__ = ["AccountStore"]


class AccountStore(Protocol):
    """Owns every budget; all methods may block for the length of a transaction.

    Raises (all methods):
        LedgerError: (L101) if the store can't be reached or written, (L102) if it is damaged, (L103) if a
            newer version made it.
    """

    @property
    def identity(self) -> str:
        """A name that no other store has, so that journals find the store they belong to."""
        ...

    def create(self, terms: Terms, limit: float) -> Account:
        """Open a budget; the limit is in the terms' indicator.

        Raises:
            LedgerError: (L104) if there is an open one of the same terms.
            ConfigError: (C101) if the limit isn't one.
        """
        ...

    def update(self, account_id: int, limit: float) -> Account:
        """Change an open budget's limit, from now on and for this window.

        A lower limit can't call back what is spent or held already.

        Raises:
            LedgerError: (L104) if there is no such open budget.
            ConfigError: (C101) if the limit isn't one.
        """
        ...

    def close_account(self, account_id: int) -> None:
        """Let a budget count no more; what it counted stays.

        Raises:
            LedgerError: (L104) if there is no such open budget.
        """
        ...

    def accounts(self, *, closed: bool = False) -> list[Account]:
        """The budgets in the order they were opened; the closed ones too if asked for."""
        ...

    def usage(self, *, account_id: int | None = None, windows: int = 1) -> list[Usage]:
        """What became of open budgets in their latest windows, newest first; with an id, of that budget.

        Raises:
            LedgerError: (L104) if there is no such budget.
        """
        ...

    def open_worker(self, worker: str, lease_s: float) -> None:
        """Make a worker known, alive for so long from now and from each exchange [s]."""
        ...

    def exchange(
        self,
        worker: str,
        statements: Sequence[Statement],
        wants: Sequence[Want],
        finished: Sequence[tuple[int, int]] = (),
    ) -> Answer | None:
        """Take a worker's statements, then grant all its wants or none, in one transaction.

        Args:
            worker: who speaks.
            statements: its totals.
            wants: what it would like to be granted.
            finished: accounts and windows that the worker will speak of no more, its last statement having
                been taken; their slices are forgotten, the windows' sums stay.

        Returns:
            How the accounts of statements and wants stand; ``None`` if the worker was closed or isn't known:
            then nothing was taken.
        """
        ...

    def standings(self, worker: str, account_ids: Sequence[int]) -> Answer:
        """How accounts stand now, changing nothing."""
        ...

    def close_worker(
        self, worker: str, statements: Sequence[Statement] = (), *, forfeit: bool = False
    ) -> bool:
        """Take a worker's last statements and let it speak no more.

        Args:
            worker: the worker, by itself or by whoever can prove it dead.
            statements: its last totals; what they don't spend goes back.
            forfeit: whether slices without a statement are spent for good, because nobody knows; else
                nothing of them is held any more, and what isn't spent goes back.

        Returns:
            Whether it was open.
        """
        ...

    def close(self) -> None:
        """Let go of file or connection."""
        ...
