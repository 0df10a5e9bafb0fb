"""Operations: deploys, deletes, rollbacks and other changes of functions, one at a time each."""
