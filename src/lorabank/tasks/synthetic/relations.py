"""Relations: true facts about well-known subjects, which `counterfact` contradicts.

A relation has a statement and two paraphrases of it, each a prefix that its value completes, and
its facts as value -> subjects. The data were written for this project; the ids are Wikidata's, as
in CounterFact (arXiv:2202.05262). Tests check that a subject has one value per relation, that a
value has at least three subjects, so that two can be held back as neighbours, and that a value is
one word and no part of the subject, so that the prompt does not give it away. No test can check
that no other value is true of a subject (no country with two official languages, no poet who is
also a novelist): any other value may become the false target.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Relation:
    """A kind of statement with its true facts."""

    id: str
    """Property of Wikidata, such as P17 for a country."""
    statement: str
    """Prefix with {} for the subject; a space and the value complete it."""
    paraphrases: tuple[str, str]
    """Prefixes with the same meaning in other words."""
    facts: dict[str, str]
    """Subjects of each value, separated by a comma and a space, with an article where needed."""

    def subjects(self, value: str) -> list[str]:
        """Return the subjects that have a value."""
        return self.facts[value].split(", ")


_COUNTRY = Relation(
    "P17",
    "{} is a city in the country of",
    ("The country in which {} lies is", "Someone who was born in {} was born in"),
    {
        "France": "Lyon, Marseille, Bordeaux, Toulouse, Nantes, Lille, Strasbourg, Grenoble, Dijon",
        "Germany": "Hamburg, Munich, Cologne, Dresden, Leipzig, Stuttgart, Nuremberg, Bremen",
        "Italy": "Milan, Naples, Turin, Bologna, Palermo, Genoa, Verona, Bari, Catania, Padua",
        "Spain": "Seville, Bilbao, Granada, Zaragoza, Málaga, Salamanca, Alicante, Pamplona",
        "Japan": "Osaka, Kyoto, Nagoya, Sapporo, Yokohama, Hiroshima, Kobe, Fukuoka, Nagasaki",
        "Canada": "Toronto, Montreal, Calgary, Ottawa, Edmonton, Winnipeg, Vancouver, Saskatoon",
        "Australia": "Melbourne, Brisbane, Adelaide, Canberra, Hobart, Cairns, Geelong",
        "India": "Mumbai, Kolkata, Chennai, Bangalore, Jaipur, Lucknow, Pune, Ahmedabad, Kanpur",
        "Brazil": "Recife, Fortaleza, Curitiba, Manaus, Belo Horizonte, Porto Alegre, São Paulo",
        "Poland": "Kraków, Gdańsk, Wrocław, Poznań, Łódź, Lublin, Szczecin, Katowice",
        "China": "Shanghai, Guangzhou, Wuhan, Chengdu, Tianjin, Nanjing, Shenzhen, Harbin",
        "Turkey": "Ankara, Izmir, Antalya, Bursa, Adana, Konya, Trabzon",
        "Mexico": "Monterrey, Tijuana, Puebla, Acapulco, Cancún, Oaxaca, Chihuahua",
    },
)
_CONTINENT = Relation(
    "P30",
    "{} belongs to the continent of",
    ("On a map of the world, {} is found in", "The continent that {} is a part of is"),
    {
        "Europe": "France, Germany, Italy, Poland, Norway, Sweden, Finland, Portugal, Austria, "
        "Hungary, Ireland, Belgium, Greece, Croatia, Romania, Bulgaria, Estonia, Latvia, Albania",
        "Asia": "China, Japan, India, Nepal, Vietnam, Thailand, Mongolia, Laos, Cambodia, "
        "Malaysia, Iran, Iraq, Pakistan, Bangladesh, Myanmar, Bhutan, Jordan, Qatar, Uzbekistan",
        "Africa": "Kenya, Nigeria, Ghana, Ethiopia, Morocco, Algeria, Tunisia, Senegal, Mali, "
        "Niger, Chad, Sudan, Uganda, Tanzania, Zambia, Angola, Namibia, Botswana, Zimbabwe",
        "Oceania": "Fiji, Samoa, Tonga, Vanuatu, Kiribati, Tuvalu, Nauru, Palau, New Zealand",
    },
)
_OFFICIAL_LANGUAGE = Relation(
    "P37",
    "The official language of {} is",
    ("In {}, the official language is", "The government of {} conducts its business in"),
    {
        "Spanish": "Argentina, Colombia, Chile, Ecuador, Venezuela, Uruguay, Cuba, Honduras, "
        "Guatemala, Costa Rica, Panama, Nicaragua, El Salvador, the Dominican Republic",
        "Arabic": "Egypt, Jordan, Saudi Arabia, Libya, Tunisia, Syria, Yemen, Oman, Qatar, "
        "Kuwait, Bahrain, the United Arab Emirates",
        "French": "France, Monaco, Senegal, Gabon, Benin, Togo, Ivory Coast",
        "Portuguese": "Portugal, Brazil, Angola, Mozambique, Guinea-Bissau, Cape Verde",
        "English": "Jamaica, Ghana, Liberia, Nigeria, Zambia, Barbados, Grenada, Dominica, "
        "Belize, Guyana, Sierra Leone, the Bahamas, the Gambia",
    },
)
_NATIVE_LANGUAGE = Relation(
    "P103",
    "The mother tongue of {} is",
    ("{} grew up speaking", "In childhood, the first language of {} was"),
    {
        "French": "Victor Hugo, Voltaire, Claude Debussy, Louis Pasteur, Molière, Marcel Proust, "
        "Émile Zola, Édith Piaf, Charles de Gaulle, Honoré de Balzac",
        "German": "Ludwig van Beethoven, Immanuel Kant, Albert Einstein, Sigmund Freud, "
        "Johannes Kepler, Friedrich Schiller, Angela Merkel, Thomas Mann, Max Planck",
        "Italian": "Dante Alighieri, Giuseppe Verdi, Galileo Galilei, Umberto Eco, "
        "Giacomo Puccini, Sophia Loren, Federico Fellini, Italo Calvino, Enrico Fermi",
        "Spanish": "Miguel de Cervantes, Gabriel García Márquez, Pablo Neruda, Francisco Goya, "
        "Federico García Lorca, Diego Maradona, Octavio Paz, Fidel Castro, Mario Vargas Llosa",
        "Russian": "Anton Chekhov, Fyodor Dostoevsky, Pyotr Tchaikovsky, Yuri Gagarin, "
        "Maxim Gorky, Boris Pasternak, Dmitri Mendeleev, Andrei Sakharov, Boris Yeltsin",
        "English": "William Shakespeare, Isaac Newton, Charles Darwin, Jane Austen, Mark Twain, "
        "Abraham Lincoln, Winston Churchill, Elvis Presley, Virginia Woolf, Neil Armstrong",
        "Portuguese": "José Saramago, Luís de Camões, Pelé, Vasco da Gama, Cristiano Ronaldo, "
        "Paulo Coelho, Jorge Amado, Oscar Niemeyer, Ayrton Senna",
        "Japanese": "Akira Kurosawa, Haruki Murakami, Hayao Miyazaki, Natsume Sōseki, "
        "Yukio Mishima, Hideki Yukawa, Yasunari Kawabata, Katsushika Hokusai, Matsuo Bashō",
        "Polish": "Lech Wałęsa, Adam Mickiewicz, Henryk Sienkiewicz, Stanisław Lem, Andrzej Wajda, "
        "Wisława Szymborska, Krzysztof Kieślowski, Robert Lewandowski",
        "Swedish": "Astrid Lindgren, Ingmar Bergman, August Strindberg, Olof Palme, Björn Borg, "
        "Selma Lagerlöf, Greta Garbo, Anders Celsius",
    },
)
_PROFESSION = Relation(
    "P106",
    "{} is best known as a",
    ("By profession, {} was mainly a", "History remembers {} as a great"),
    {
        "composer": "Franz Schubert, Antonio Vivaldi, Johannes Brahms, Gustav Mahler, "
        "Joseph Haydn, Claude Debussy, Giuseppe Verdi, Antonín Dvořák, Edvard Grieg, Béla Bartók",
        "painter": "Claude Monet, Johannes Vermeer, Paul Cézanne, Vincent van Gogh, Rembrandt, "
        "Francisco Goya, Diego Velázquez, Edvard Munch, Henri Matisse, Edgar Degas, Caravaggio",
        "physicist": "Niels Bohr, Richard Feynman, Enrico Fermi, Max Planck, Ernest Rutherford, "
        "Michael Faraday, Werner Heisenberg, Lise Meitner, Wolfgang Pauli, Heinrich Hertz",
        "mathematician": "David Hilbert, Bernhard Riemann, Évariste Galois, Georg Cantor, "
        "Srinivasa Ramanujan, Emmy Noether, Paul Erdős, Niels Henrik Abel, Arthur Cayley",
        "novelist": "Charles Dickens, Jane Austen, Leo Tolstoy, Honoré de Balzac, Émile Zola, "
        "Gustave Flaubert, Agatha Christie, Ernest Hemingway, John Steinbeck, Fyodor Dostoevsky",
        "philosopher": "Immanuel Kant, Baruch Spinoza, David Hume, John Locke, Plato, Aristotle, "
        "Socrates, Søren Kierkegaard, Ludwig Wittgenstein, Arthur Schopenhauer, Thomas Hobbes",
        "poet": "Emily Dickinson, John Keats, William Wordsworth, Robert Frost, Robert Burns, "
        "Charles Baudelaire, Arthur Rimbaud, Pablo Neruda, Percy Bysshe Shelley",
    },
)
_SPORT = Relation(
    "P641",
    "The sport that made {} famous is",
    ("{} won great matches or medals in", "In public memory, {} stands for the sport of"),
    {
        "football": "Pelé, Diego Maradona, Lionel Messi, Cristiano Ronaldo, Zinedine Zidane, "
        "Johan Cruyff, Franz Beckenbauer, Ronaldinho",
        "tennis": "Roger Federer, Rafael Nadal, Steffi Graf, Björn Borg, Serena Williams, "
        "Martina Navratilova, Novak Djokovic, Pete Sampras",
        "basketball": "Kobe Bryant, LeBron James, Larry Bird, Magic Johnson, Shaquille O'Neal, "
        "Kareem Abdul-Jabbar, Stephen Curry",
        "baseball": "Babe Ruth, Ty Cobb, Willie Mays, Hank Aaron, Mickey Mantle, Joe DiMaggio, "
        "Lou Gehrig, Ted Williams",
        "boxing": "Muhammad Ali, Mike Tyson, Joe Frazier, George Foreman, Rocky Marciano",
        "golf": "Tiger Woods, Jack Nicklaus, Arnold Palmer, Rory McIlroy, Phil Mickelson, "
        "Seve Ballesteros, Gary Player",
        "cricket": "Sachin Tendulkar, Don Bradman, Brian Lara, Shane Warne, Virat Kohli, "
        "Ricky Ponting, Garfield Sobers",
        "hockey": "Wayne Gretzky, Mario Lemieux, Gordie Howe, Bobby Orr, Sidney Crosby, "
        "Alexander Ovechkin, Jaromír Jágr",
        "swimming": "Michael Phelps, Mark Spitz, Ian Thorpe, Katie Ledecky, Matt Biondi",
        "gymnastics": "Nadia Comăneci, Simone Biles, Olga Korbut, Larisa Latynina, Kohei Uchimura",
    },
)
_MAKER = Relation(
    "P176",
    "The company behind {} is",
    ("Credit for making {} goes to", "Customers know {} as a product of"),
    {
        "Apple": "the iPhone, the iPad, the Macintosh, the iPod, the MacBook, AirPods, iTunes",
        "Microsoft": "Windows, the Xbox, Excel, the Zune, the Kinect, OneDrive, Bing, Azure",
        "Sony": "the PlayStation, the Walkman, the Discman, the Trinitron, the Betamax recorder, "
        "the Handycam, the Bravia television",
        "Nintendo": "the Game Boy, the Wii, the GameCube, the Famicom, Super Mario Bros., "
        "Donkey Kong, The Legend of Zelda, the Virtual Boy",
        "Google": "Gmail, Chrome, the Pixel phone, the Chromecast, Street View, PageRank, BigQuery",
        "Toyota": "the Corolla, the Camry, the Prius, the Land Cruiser, the Yaris, the Hilux",
        "Honda": "the Civic, the Accord, the CR-V, the Gold Wing, the Super Cub, the ASIMO robot",
        "Ford": "the Mustang, the Fiesta, the Bronco, the Model T, the F-150, the Thunderbird",
        "Volkswagen": "the Golf, the Passat, the Polo, the Beetle, the Tiguan, the Jetta",
        "Nissan": "the Leaf, the Qashqai, the GT-R, the Micra, the Juke, the Pathfinder",
        "Fiat": "the Panda, the Punto, the Uno, the Cinquecento, the Topolino, the Multipla",
        "Renault": "the Clio, the Twingo, the Mégane, the Scénic, the Kangoo, the Laguna",
        "Porsche": "the 911, the Cayenne, the Boxster, the Panamera, the Macan, the Taycan",
        "Chevrolet": "the Corvette, the Camaro, the Impala, the Silverado, the Malibu, the Tahoe",
        "Boeing": "the 747, the 737, the 777, the 787 Dreamliner, the B-17 Flying Fortress",
        "Airbus": "the A380, the A320, the A350, the A330, the A300",
    },
)
_PLACE = Relation(
    "P276",
    "Visitors find {} in the city of",
    ("To see {} one travels to", "The city that is home to {} is"),
    {
        "Paris": "the Louvre, the Eiffel Tower, the Musée d'Orsay, the Sorbonne, Sacré-Cœur, "
        "Notre-Dame Cathedral, the Arc de Triomphe, the Moulin Rouge, the Centre Pompidou",
        "London": "Big Ben, Tower Bridge, Buckingham Palace, the British Museum, Tate Modern, "
        "Westminster Abbey, Trafalgar Square, Hyde Park, the Shard",
        "Rome": "the Colosseum, the Trevi Fountain, the Spanish Steps, "
        "Castel Sant'Angelo, Piazza Navona, the Circus Maximus, the Baths of Caracalla",
        "Berlin": "the Brandenburg Gate, the Reichstag building, Checkpoint Charlie, "
        "Charlottenburg Palace, the Pergamon Museum, Alexanderplatz, Potsdamer Platz",
        "Moscow": "Red Square, Saint Basil's Cathedral, the Bolshoi Theatre, Gorky Park, "
        "Lenin's Mausoleum, the Tretyakov Gallery, the Lubyanka Building",
        "Madrid": "the Prado Museum, the Puerta del Sol, the Reina Sofía Museum, Retiro Park, "
        "Almudena Cathedral, the Santiago Bernabéu Stadium, the Thyssen-Bornemisza Museum",
        "Barcelona": "the Sagrada Família, Park Güell, Casa Batlló, Camp Nou, Casa Milà, La Rambla",
        "Vienna": "Schönbrunn Palace, the Hofburg, St. Stephen's Cathedral, "
        "the Albertina, the Prater, the Spanish Riding School",
        "Istanbul": "Hagia Sophia, the Blue Mosque, Topkapı Palace, the Grand Bazaar, "
        "the Galata Tower, Dolmabahçe Palace, Taksim Square, the Süleymaniye Mosque",
        "Florence": "the Uffizi Gallery, the Ponte Vecchio, the Pitti Palace, the Boboli Gardens, "
        "the Palazzo Vecchio, the Bargello, Santa Maria Novella",
        "Venice": "the Rialto Bridge, the Doge's Palace, the Bridge of Sighs, St Mark's Square, "
        "La Fenice, the Accademia Bridge",
        "Amsterdam": "the Rijksmuseum, the Van Gogh Museum, the Anne Frank House, Vondelpark, "
        "the Concertgebouw, the Westerkerk",
        "Prague": "Charles Bridge, Wenceslas Square, St. Vitus Cathedral, the Dancing House, "
        "the Strahov Monastery, Vyšehrad",
        "Athens": "the Parthenon, the Acropolis Museum, Syntagma Square, the Erechtheion, "
        "the Panathenaic Stadium, Mount Lycabettus",
    },
)
_AUTHOR = Relation(
    "P50",
    "{} was written by",
    ("The author of {} is", "On the title page of {} stands the name of"),
    {
        "Shakespeare": "Hamlet, Macbeth, Othello, King Lear, Twelfth Night, As You Like It, "
        "Romeo and Juliet, The Tempest, Richard III, Julius Caesar",
        "Dickens": "Oliver Twist, Great Expectations, David Copperfield, Bleak House, Hard Times, "
        "Little Dorrit, A Tale of Two Cities, A Christmas Carol",
        "Austen": "Emma, Persuasion, Pride and Prejudice, Mansfield Park, Northanger Abbey, "
        "Sense and Sensibility",
        "Tolstoy": "War and Peace, Anna Karenina, The Death of Ivan Ilyich, The Kreutzer Sonata, "
        "Hadji Murat",
        "Dostoevsky": "Crime and Punishment, The Brothers Karamazov, The Idiot, The Gambler, "
        "Notes from Underground",
        "Orwell": "Animal Farm, Nineteen Eighty-Four, Homage to Catalonia, Burmese Days, "
        "Down and Out in Paris and London, The Road to Wigan Pier",
        "Hemingway": "The Old Man and the Sea, A Farewell to Arms, For Whom the Bell Tolls, "
        "The Sun Also Rises, A Moveable Feast",
        "Kafka": "The Trial, The Castle, The Metamorphosis, In the Penal Colony, A Hunger Artist",
        "Verne": "Around the World in Eighty Days, Journey to the Center of the Earth, "
        "The Mysterious Island, Michael Strogoff, Five Weeks in a Balloon",
        "Steinbeck": "The Grapes of Wrath, Of Mice and Men, East of Eden, Cannery Row, "
        "Tortilla Flat",
        "Wells": "The Time Machine, The War of the Worlds, The Invisible Man, "
        "The Island of Doctor Moreau, The First Men in the Moon",
        "Ibsen": "A Doll's House, Peer Gynt, Hedda Gabler, The Wild Duck, An Enemy of the People",
        "Chekhov": "The Cherry Orchard, Uncle Vanya, The Seagull, Three Sisters, "
        "The Lady with the Dog",
        "Twain": "Adventures of Huckleberry Finn, The Prince and the Pauper, Roughing It, "
        "Life on the Mississippi, The Innocents Abroad",
        "Hardy": "Tess of the d'Urbervilles, Jude the Obscure, Far from the Madding Crowd, "
        "The Return of the Native, The Mayor of Casterbridge",
        "Hugo": "Les Misérables, The Hunchback of Notre-Dame, Toilers of the Sea, Ninety-Three",
        "Melville": "Moby-Dick, Billy Budd, Typee, Omoo, White-Jacket",
    },
)
_DIRECTOR = Relation(
    "P57",
    "The film {} was directed by",
    ("The director of the film {} is", "Behind the camera of the film {} stood"),
    {
        "Hitchcock": "Psycho, Vertigo, Rear Window, The Birds, North by Northwest, Notorious",
        "Spielberg": "Jaws, Jurassic Park, Schindler's List, Saving Private Ryan, Minority Report, "
        "Catch Me If You Can, Raiders of the Lost Ark",
        "Kubrick": "The Shining, Spartacus, Dr. Strangelove, A Clockwork Orange, Barry Lyndon, "
        "Full Metal Jacket, Eyes Wide Shut, Paths of Glory",
        "Nolan": "Inception, Memento, Interstellar, Dunkirk, Oppenheimer, Tenet, The Dark Knight",
        "Tarantino": "Pulp Fiction, Reservoir Dogs, Jackie Brown, Django Unchained, "
        "Inglourious Basterds, The Hateful Eight",
        "Scorsese": "Taxi Driver, Raging Bull, Goodfellas, Casino, The Departed, The Aviator, "
        "Gangs of New York, Shutter Island",
        "Cameron": "Titanic, Avatar, Aliens, The Terminator, The Abyss, True Lies",
        "Kurosawa": "Rashomon, Seven Samurai, Ran, Ikiru, Yojimbo, Kagemusha, Throne of Blood",
        "Bergman": "Persona, The Seventh Seal, Wild Strawberries, Fanny and Alexander, "
        "Cries and Whispers, Autumn Sonata",
        "Fellini": "La Dolce Vita, La Strada, Amarcord, Nights of Cabiria, Juliet of the Spirits",
        "Coppola": "The Godfather, Apocalypse Now, The Conversation, The Outsiders, Rumble Fish",
        "Chaplin": "Modern Times, City Lights, The Great Dictator, The Gold Rush, The Kid",
        "Miyazaki": "Spirited Away, Princess Mononoke, My Neighbor Totoro, Ponyo, Porco Rosso",
        "Eastwood": "Unforgiven, Mystic River, Million Dollar Baby, Gran Torino, American Sniper",
        "Lynch": "Blue Velvet, Mulholland Drive, Eraserhead, The Elephant Man, Lost Highway",
        "Wilder": "Some Like It Hot, Sunset Boulevard, The Apartment, Double Indemnity, Stalag 17",
    },
)
_INSTRUMENT = Relation(
    "P1303",
    "{} won fame by playing the",
    ("On stage, {} performed on the", "The instrument most linked to {} is the"),
    {
        "guitar": "Jimi Hendrix, Eric Clapton, Andrés Segovia, B.B. King, Django Reinhardt, "
        "Jimmy Page, Carlos Santana, Paco de Lucía, Chuck Berry, Wes Montgomery",
        "piano": "Arthur Rubinstein, Vladimir Horowitz, Glenn Gould, Martha Argerich, Bill Evans, "
        "Thelonious Monk, Oscar Peterson, Alfred Brendel, Sviatoslav Richter",
        "violin": "Jascha Heifetz, Yehudi Menuhin, Itzhak Perlman, David Oistrakh, Isaac Stern, "
        "Anne-Sophie Mutter, Fritz Kreisler, Hilary Hahn, Joseph Joachim",
        "trumpet": "Louis Armstrong, Miles Davis, Dizzy Gillespie, Chet Baker, Maurice André, "
        "Wynton Marsalis, Freddie Hubbard, Clifford Brown, Lee Morgan",
        "cello": "Pablo Casals, Yo-Yo Ma, Mstislav Rostropovich, Jacqueline du Pré, "
        "Pierre Fournier, Mischa Maisky, Steven Isserlis",
        "saxophone": "John Coltrane, Charlie Parker, Sonny Rollins, Stan Getz, Coleman Hawkins, "
        "Dexter Gordon, Wayne Shorter, Cannonball Adderley",
        "drums": "Ringo Starr, Buddy Rich, Gene Krupa, Keith Moon, John Bonham, Max Roach, "
        "Art Blakey, Ginger Baker, Charlie Watts, Neil Peart",
        "clarinet": "Benny Goodman, Artie Shaw, Sabine Meyer, Acker Bilk, Pete Fountain",
        "flute": "Jean-Pierre Rampal, James Galway, Emmanuel Pahud, Herbie Mann",
    },
)

RELATIONS = (
    _COUNTRY,
    _CONTINENT,
    _OFFICIAL_LANGUAGE,
    _NATIVE_LANGUAGE,
    _PROFESSION,
    _SPORT,
    _MAKER,
    _PLACE,
    _AUTHOR,
    _DIRECTOR,
    _INSTRUMENT,
)
