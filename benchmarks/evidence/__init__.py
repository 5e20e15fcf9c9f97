"""Evidence that takes hours: a listed plan of lab runs, by optimisers and rules, and the page that is made of them."""
